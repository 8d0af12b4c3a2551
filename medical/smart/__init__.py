"""SMART App Launch: apps that act for users, what users let them do, and their tokens."""
