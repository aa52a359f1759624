"""The command line, one file a command group. Heavy imports happen inside commands, so that `--help` is quick."""
