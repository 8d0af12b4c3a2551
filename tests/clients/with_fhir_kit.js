// fhir-kit-client: CRUD, search with pages, history, batch, operations, vread, patch.
import assert from 'node:assert/strict';
import { Client } from 'fhir-kit-client';

const client = new Client({ baseUrl: process.env.FHIR_BASE });
client.bearerToken = process.env.FHIR_TOKEN;

const statement = await client.capabilityStatement();
assert.equal(statement.fhirVersion, '4.0.1');

const person = { resourceType: 'Patient', name: [{ family: 'Kit' }], birthDate: '1980-05-17' };
const made = await client.create({ resourceType: 'Patient', body: person });
assert.ok(made.id);
await client.update({ resourceType: 'Patient', id: made.id, body: { ...made, gender: 'other' } });
assert.equal((await client.read({ resourceType: 'Patient', id: made.id })).gender, 'other');
assert.equal((await client.vread({ resourceType: 'Patient', id: made.id, version: '1' })).gender, undefined);
const patch = [{ op: 'replace', path: '/gender', value: 'female' }];
assert.equal((await client.patch({ resourceType: 'Patient', id: made.id, jsonPatch: patch })).gender, 'female');
assert.equal((await client.history({ resourceType: 'Patient', id: made.id })).entry.length, 3);
assert.ok((await client.history({ resourceType: 'Patient' })).entry.length >= 3);
assert.ok((await client.history()).entry.length >= 3);

const page = await client.search({ resourceType: 'Observation', searchParams: { _count: 3, _sort: '-date' } });
assert.equal(page.entry.length, 3);
const next = await client.nextPage({ bundle: page });
assert.equal(next.entry.length, 3);
assert.notEqual(next.entry[0].resource.id, page.entry[0].resource.id);
const posted = await client.search({
  resourceType: 'Patient', searchParams: { family: 'Kit' }, options: { postSearch: true },
});
assert.equal(posted.entry[0].resource.id, made.id);
const own = await client.compartmentSearch({
  resourceType: 'Observation', compartment: { resourceType: 'Patient', id: made.id },
});
assert.equal(own.entry, undefined);
const whole = await client.operation({ name: 'everything', resourceType: 'Patient', id: made.id, method: 'GET' });
assert.equal(whole.entry[0].resource.id, made.id);
const batch = await client.batch({
  body: { resourceType: 'Bundle', type: 'batch', entry: [{ request: { method: 'GET', url: `Patient/${made.id}` } }] },
});
assert.equal(batch.entry[0].resource.id, made.id);
await assert.rejects(client.read({ resourceType: 'Patient', id: 'none' }), (error) => error.response.status === 404);
await assert.rejects(
  client.create({ resourceType: 'Observation', body: { resourceType: 'Observation' } }),
  (error) => error.response.data.issue.length === 2,
);
console.log('fhir-kit-client got through');
