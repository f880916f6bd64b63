"""A report as one HTML page: `markup` turns its Markdown into HTML, `forest` draws, `document` is the page around."""
