"""From a session, settings and the minutes left to one advice; its export, and its comparison by replay."""
