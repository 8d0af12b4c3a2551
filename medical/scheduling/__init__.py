"""When patients and clinicians meet."""
