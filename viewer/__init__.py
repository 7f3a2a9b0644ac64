"""See, edit and predict a world in the browser."""
