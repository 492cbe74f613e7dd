"""What training and sampling cost, raw samples kept."""
