"""The one training loop, and what it needs: callbacks, curves, failures, precision, scratch, schedules."""
