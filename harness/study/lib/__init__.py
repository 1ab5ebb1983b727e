"""What the analyses of the study share."""
