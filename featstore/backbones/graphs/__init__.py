"""Networks in files of other libraries, run by OpenVINO."""
