"""From a Kaldi directory to a word error rate: every command in its order, going on where it stopped."""
