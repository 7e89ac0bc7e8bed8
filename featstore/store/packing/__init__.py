"""Export of one space and one catalog for other programs: HDF5, TFRecord, Parquet, NumPy, TensorBoard."""
