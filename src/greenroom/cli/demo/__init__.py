"""`greenroom demo`: a tour that measures as it goes."""
