"""What a fit is trained with."""
