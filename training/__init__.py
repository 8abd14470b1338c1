"""Models, and how they learn and are measured. torch lives here."""
