"""The trail: who touched what, when, in which role, with which outcome. It is only ever added to."""
