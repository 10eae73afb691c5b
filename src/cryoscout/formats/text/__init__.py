"""What readers of text share: findings with lines, values of JSON and YAML."""
