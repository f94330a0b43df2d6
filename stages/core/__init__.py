"""Pure functions of tensors: no paths, no configuration, no globals, no clock."""
