"""The command line `bsqc`."""
