"""What every stage needs to run: parameters, errors, files, command line, device, resuming."""
