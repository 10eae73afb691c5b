"""SerialEM navigator files and image metadata, read and written."""
