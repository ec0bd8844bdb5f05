"""Why a run fails: rules over what it reported, and other trainers' reports in the same words."""
