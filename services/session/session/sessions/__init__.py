"""Sessions and what belongs to them: turns, transcripts, workspaces, forks, templates."""
