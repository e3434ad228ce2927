"""Who runs stages: this process, a local pool, a Ray cluster, Slurm."""
