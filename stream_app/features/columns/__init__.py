"""Events to arrays: one array for each property, from decoded events or from the columns of an event table."""
