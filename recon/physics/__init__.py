"""What things weigh, how they slide and what they rest on: the step after shapes."""
