"""Who runs stages: this process or a local pool."""
