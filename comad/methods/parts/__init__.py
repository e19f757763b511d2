"""What methods share: masks, alignment, fusion, losses, decoder, relations, teachers, moments."""
