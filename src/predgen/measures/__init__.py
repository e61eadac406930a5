"""Plain mathematics over answers: metrics, tests, calibration, mixes, distributions."""
