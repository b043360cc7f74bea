"""The door of the control endpoint: which AWS service a request is for, and how that one speaks."""
