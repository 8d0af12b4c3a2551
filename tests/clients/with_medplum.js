// @medplum/core: create, read, search, conditional create, patch, history, batch, $everything, booking.
import assert from 'node:assert/strict';

globalThis.WebSocket ??= class extends EventTarget {}; // Node 20 has none, and nothing here subscribes
const { MedplumClient, OperationOutcomeError } = await import('@medplum/core');
const base = new URL(process.env.FHIR_BASE);
const client = new MedplumClient({
  baseUrl: `${base.origin}/`, fhirUrlPath: base.pathname.slice(1), fetch, cacheTime: 0, autoBatchTime: 0,
});
client.setAccessToken(process.env.FHIR_TOKEN);

const name = [{ family: 'Medplum', given: ['Ada'] }];
const patient = await client.createResource({ resourceType: 'Patient', name, birthDate: '1980-05-17' });
assert.equal((await client.readResource('Patient', patient.id)).name[0].family, 'Medplum');
const code = { coding: [{ system: 'http://loinc.org', code: '8867-4' }] };
const subject = { reference: `Patient/${patient.id}` };
const identifier = [{ system: 'urn:suite', value: patient.id }];
const seen = { resourceType: 'Observation', status: 'final', code, subject, identifier };
const first = await client.createResourceIfNoneExist(seen, `identifier=urn:suite|${patient.id}`);
const second = await client.createResourceIfNoneExist(seen, `identifier=urn:suite|${patient.id}`);
assert.equal(first.id, second.id);
const changed = await client.patchResource('Observation', first.id, [
  { op: 'replace', path: '/status', value: 'amended' },
]);
assert.equal(changed.status, 'amended');
assert.equal((await client.readHistory('Observation', first.id)).entry.length, 2);
assert.equal((await client.searchResources('Observation', { patient: patient.id })).length, 1);
assert.equal((await client.searchOne('Patient', { family: 'Medplum' })).id, patient.id);
assert.ok((await client.readPatientEverything(patient.id)).entry.length >= 2);
const slots = await client.searchResources('Slot', { status: 'free', _count: '1' });
const booking = {
  resourceType: 'Appointment', status: 'proposed', serviceType: slots[0].serviceType, start: slots[0].start,
  end: slots[0].end, slot: [{ reference: `Slot/${slots[0].id}` }],
  participant: [{ actor: subject, status: 'accepted' }],
};
const booked = await client.createResource(booking);
assert.equal(booked.status, 'booked');
await assert.rejects(client.createResource(booking), (error) => error instanceof OperationOutcomeError);
await client.updateResource({ ...booked, status: 'cancelled' });
await client.deleteResource('Observation', first.id);
await assert.rejects(client.readResource('Observation', first.id), OperationOutcomeError);
console.log('@medplum/core got through');
