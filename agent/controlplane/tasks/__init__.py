"""The life of a task at the control endpoint: launched, changed by reports and stops, retired."""
