//! One file per subcommand: words and tables, no rules.
