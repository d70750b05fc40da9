"""embedcore for ann-benchmarks (github.com/erikbern/ann-benchmarks): see README.md of bench."""
