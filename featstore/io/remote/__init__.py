"""Objects and files on other machines: listed, looked up and read by URL."""
