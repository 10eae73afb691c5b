"""SmartScope exports, its server, and the selection written back."""
