"""Apps that act for users: SMART App Launch."""
