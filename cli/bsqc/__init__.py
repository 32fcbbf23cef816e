"""The command line of bsqcodec: one file a verb. Only this package prints or exits."""
