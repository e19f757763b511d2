"""Slurm itself, as Debian packages it, on this machine: what the launcher does with the real one."""
