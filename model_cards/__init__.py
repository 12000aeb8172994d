"""Templates of the cards that saved models carry."""
