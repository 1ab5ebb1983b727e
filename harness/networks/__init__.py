"""Networks: architectures, weights, training and victims."""
