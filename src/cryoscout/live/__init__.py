"""The advisor at the microscope: a running session in, one advice out, nothing lost."""
