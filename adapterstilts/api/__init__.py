"""What the command line does, as functions: the verbs call these and nothing else. No click, nothing printed."""
