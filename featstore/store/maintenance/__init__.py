"""Store maintenance: verify, repair, merge, compact."""
