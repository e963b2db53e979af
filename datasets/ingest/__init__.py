"""From any source to a store: plan, select, regrid, write."""
