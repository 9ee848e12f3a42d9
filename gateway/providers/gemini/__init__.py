"""Google's Gemini API. The official SDK makes the calls."""
