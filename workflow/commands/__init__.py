"""The commands of ``ca-tride``, one module each."""
