"""Who is treated, who treats, and where."""
