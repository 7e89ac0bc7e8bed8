"""HDF5 files: safe reading, and writing with one checksum over all bytes."""
