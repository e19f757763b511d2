"""What the launcher does with Slurm itself, as Debian packages it, on this machine."""
