"""What a TF Serving bundle consists of: signatures, warm-up requests, configuration, a README."""
