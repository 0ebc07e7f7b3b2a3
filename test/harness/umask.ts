// Each file of tests begins with this umask, whoever runs them and whatever an earlier one in the same process has set, as
// the command does for itself.
process.umask(0o022);
