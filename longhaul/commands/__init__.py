"""The subcommands of `longhaul`, each imported only when it is called."""
