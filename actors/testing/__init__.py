"""For tests of programs that ask language models. Nothing in dspex imports it."""
