"""Model classes, configurations and tokenizers, as they go to the Hub."""
